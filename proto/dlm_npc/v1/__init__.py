"""Version 1 of the wire format: generated from the `.proto` files beside it by `scripts/generate_proto.py`."""
