"""What a model is asked to do, with answers that are known: the tasks that an evaluation compares two models on."""
