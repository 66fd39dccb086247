"""A finished run in the formats of other runtimes: ONNX, TorchScript, torch.export, safetensors, one Python file."""
