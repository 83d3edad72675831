"""What a search tries: options, limits, proposals, journal and races."""
