"""From public hosts, folders and seeds to arrays of images."""
