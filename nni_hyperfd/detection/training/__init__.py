"""How a detector is trained: budgets, crops, targets, losses, and the loops on CPU and GPU."""
