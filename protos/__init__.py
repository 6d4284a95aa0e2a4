"""The gRPC contracts and the code generated from them (see generate.py)."""
