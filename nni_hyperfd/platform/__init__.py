"""What the server knows, and the only messages through which a customer may speak to it."""
