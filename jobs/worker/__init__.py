"""What a worker does: finds corpus and store, trains, selects."""
