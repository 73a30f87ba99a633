"""From a published checkpoint folder to a bundle: config.json and safetensors in, one ONNX step graph and a manifest out."""
