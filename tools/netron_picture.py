"""Draw the README's picture of Netron: `python tools/netron_picture.py` writes tools/netron.png.

Needs the extras `view` and `test-heavy`, and from Debian chromium, chromium-driver and
fonts-wqy-microhei (for the brackets in which Netron puts shapes).
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import netron
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from sardonyx.compiler import compile
from sardonyx.models import minilm_l3_onnx

NODE = "/model/model.0/auto_model/encoder/layer.0/attention/self/key/MatMul"
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
)
SIZE = (960, 640)


def main() -> None:
    """Compile the demo's model, select a rewritten node and take the picture."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "minilm-l3.gobo.onnx")
        compile(minilm_l3_onnx(), "gobo").save(path)
        host, port = netron.start(str(path), browse=False)
        options = webdriver.ChromeOptions()
        for switch in SWITCHES:
            options.add_argument(switch)
        service = webdriver.ChromeService("/usr/bin/chromedriver")
        with webdriver.Chrome(options, service) as browser:
            _draw(browser, f"http://{host}:{port}")
        netron.stop()


def _draw(browser: webdriver.Chrome, address: str) -> None:
    wait = WebDriverWait(browser, 30)
    browser.get(f"{address}/favicon.ico")
    browser.add_cookie({"name": "consent", "value": "yes"})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1.25, "mobile": False},
    )
    browser.get(address)
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "body.default"))
    node = wait.until(lambda page: page.find_element(By.ID, f"node-name-{NODE}"))
    node.find_element(By.CLASS_NAME, "node-item").click()
    last = wait.until(lambda page: page.find_element(By.CSS_SELECTOR, "[value='sardonyx.bytes']"))
    for seen in (node, last):
        script = "arguments[0].scrollIntoView({block: 'center', inline: 'center'})"
        browser.execute_script(script, seen)
    time.sleep(1)  # the sidebar slides in
    browser.save_screenshot(str(Path(__file__).with_name("netron.png")))


if __name__ == "__main__":
    main()
