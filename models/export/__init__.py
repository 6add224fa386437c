"""From a Hugging Face model directory to ONNX, by way of optimum or of PyTorch alone."""
