"""The PaLM-style sparse encoder-decoder family: definition, training, export. See README.md."""
