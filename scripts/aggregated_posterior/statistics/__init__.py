"""How far Q(z) is from N(0, I): one dimension, all dimensions, closed forms, and how sure these are."""
