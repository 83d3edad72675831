"""From a file to the tensor that a model takes."""
