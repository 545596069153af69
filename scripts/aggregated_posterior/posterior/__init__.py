"""Q(z) itself: the mixture and its density, its exact moments, its canonical form, its splits."""
