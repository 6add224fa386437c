"""sardonyx view: what is served, and what a browser shows of it."""

import shutil
import signal
import socket
import sys
import time
import urllib.request
from contextlib import closing, contextmanager

import netron
import onnx
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.cli import view_command


@contextmanager
def served(program, path, *more):
    """The address of ``sardonyx view --no-browser``; at the end Ctrl-C, which must end it well."""
    started = program("view", path, "--no-browser", *more)
    try:
        line = started.stdout.readline()
        assert line.endswith(" (Ctrl-C to stop)\n"), started.communicate()
        yield line.removeprefix(f"{path} is at ").removesuffix(" (Ctrl-C to stop)\n")
        started.send_signal(signal.SIGINT)
        output, errors = started.communicate(timeout=60)
        assert (started.returncode, output, errors) == (0, "", "")
    finally:
        started.kill()
        started.communicate()


@pytest.fixture
def bert_here(bert, folder):
    onnx.save(bert, folder / "bert.onnx")
    return folder / "bert.onnx"


def free_port():
    with closing(socket.socket()) as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def read(address):
    with urllib.request.urlopen(address) as answer:
        return answer.read()


def test_the_model_is_served_until_ctrl_c(program, bert_here):
    port = free_port()
    with served(program, bert_here, "--port", port) as address:
        assert address == f"http://localhost:{port}"
        assert b"/data/bert.onnx" in read(address)
        assert read(f"{address}/data/bert.onnx") == bert_here.read_bytes()


@pytest.mark.parametrize("opens", [True, False])
def test_the_browser_opens(cli, bert_here, monkeypatch, opens):
    opened = []
    monkeypatch.setattr(view_command.webbrowser, "open", lambda a: opened.append(a) or opens)
    monkeypatch.setattr(netron, "wait", netron.stop)
    ran = cli("view", "bert.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"bert.onnx is at {opened[0]} (Ctrl-C to stop)\n")
    assert ("open the address yourself" in ran.out) is not opens
    while netron.status():  # its thread looks for the end four times a second
        time.sleep(0.05)


def test_refusals_come_before_a_server_starts(refused, folder, monkeypatch):
    monkeypatch.setattr(netron, "start", None)
    assert refused("view", "no.onnx") == "cannot read 'no.onnx': No such file or directory"
    assert refused("view", "out.onnx").startswith("'out.onnx' is not an ONNX model")
    onnx.save(onnx.ModelProto(ir_version=8), folder / "hollow.onnx")
    text = refused("view", "hollow.onnx")
    assert text == "'hollow.onnx' is not an ONNX model: it holds no graph"


def test_without_netron(refused, bert_here, monkeypatch):
    monkeypatch.setitem(sys.modules, "netron", None)
    text = refused("view", "bert.onnx")
    assert text == "Netron, which draws the graph, is missing: pip install 'sardonyx[view]'"


def test_a_taken_port(refused, bert_here):
    with closing(socket.create_server(("localhost", 0))) as taken:
        port = taken.getsockname()[1]
        text = refused("view", "bert.onnx", "--port", port)
    assert text == f"port {port} is taken: give another, or none"


class Page:
    """A page in headless Chromium, which can reach this machine alone.

    It redraws as it likes, so that all is looked up anew, and tried until it works.
    """

    def __init__(self, driver, wait):
        self.driver, self.wait = driver, wait

    def open(self, address):
        """Open Netron, past its question about cookies, and wait for the drawing."""
        self.driver.get(f"{address}/favicon.ico")
        self.driver.add_cookie({"name": "consent", "value": "yes"})
        self.driver.get(address)
        self.until(lambda: self.count("body.default g.node"))

    def until(self, condition):
        return self.wait.until(lambda _: condition())

    def count(self, selector):
        return len(self.driver.find_elements("css selector", selector))

    def click(self, selector):
        self.until(lambda: self.driver.find_element("css selector", selector).click() or True)

    def sidebar(self, title):
        """What the sidebar says, by name, once it has this title."""
        return self.until(lambda: self.driver.execute_script(SIDEBAR, title))


SIDEBAR = """
if (document.querySelector('#sidebar-title').innerText !== arguments[0].toUpperCase()) return null;
const items = [...document.querySelectorAll('#sidebar .sidebar-item')];
const value = (item) => item.querySelector('.sidebar-item-value-line').innerText;
return Object.fromEntries(items.map((item) => [item.querySelector('input').value, value(item)]));
"""


@pytest.fixture
def page():
    """A fresh page."""
    webdriver = pytest.importorskip("selenium.webdriver")
    failure = pytest.importorskip("selenium.common").WebDriverException
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    if not shutil.which("chromedriver"):
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    only_here = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost"
    for switch in ("--headless=new", "--no-sandbox", "--window-size=1200,900", only_here):
        options.add_argument(switch)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as driver:
        yield Page(driver, wait(driver, 60, ignored_exceptions=[failure]))


@pytest.mark.heavy
def test_netron_shows_what_was_done(program, page, minilm, tmp_path):
    path = tmp_path / "l3.gobo.onnx"
    compiled = compile(minilm, "gobo")
    compiled.save(path)
    entry = next(t for t in compiled.report.tensors if t.node.endswith("self/query/MatMul"))
    with served(program, path) as address:
        page.open(address)
        assert page.count("g.graph-node") == len(compiled.model.graph.node)

        title = f"[id='node-name-{entry.node}'] .node-item"
        page.click(title)
        said = page.sidebar("Node Properties")
        assert said["type"] == "GoboMatMul3"
        assert said["sardonyx.weight"] == entry.name
        assert said["sardonyx.bits"] == "3"
        assert said["sardonyx.outlier_share"] == f"{entry.outlier_share:.4%}"
        assert said["sardonyx.sqnr_db"] == f"{entry.sqnr_db:.2f}"
        assert said["sardonyx.bytes"] == f"{entry.bytes_before} -> {entry.bytes_after}"
        assert said["description"].startswith("MatMul with a 3-bit weight, SQNR ")

        page.click(f"{title} + .node-item")  # the f beside the title
        page.until(lambda: page.count("[id='node-name-full_codes']"))
        page.click("#sidebar-target-button")
        body = next(f for f in compiled.model.functions if f.name == "GoboMatMul3")
        assert page.sidebar("Function Properties")["description"] == body.doc_string
