"""RestoreVAR as ONNX graphs, one shape a set, and the same restored from them with numpy and onnxruntime alone.

`runtime.py` runs them and needs no torch; `write.py` makes them, `compare.py` holds them against torch.
"""
