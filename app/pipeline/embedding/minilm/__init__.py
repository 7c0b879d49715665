"""all-MiniLM-L6-v2 on a CPU: weights, tokenizer, numpy reference, ONNX graph, session."""
