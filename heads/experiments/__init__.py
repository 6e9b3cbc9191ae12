"""From a configuration to a run folder: training, evaluation, transfer, the demo."""
