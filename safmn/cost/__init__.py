"""What a network costs: parameters, FLOPs and activations; memory; time."""
