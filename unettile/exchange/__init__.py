"""Models from elsewhere and for elsewhere: programs, ONNX, TorchScript, bioimage.io packages."""
