"""Many runs of one recipe: ablations over seeds, and searches for weights."""
