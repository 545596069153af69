"""What a mismatch does to generated images: samplers of codes and the scores of their images."""
