"""What a person sees: terminal, figures. Reads Results (and the runner's events), nothing else."""
