"""All that may cross between a customer and the platform: messages, and tensors as safetensors."""
