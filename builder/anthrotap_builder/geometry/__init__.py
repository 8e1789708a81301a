"""Camera projection and exact visibility of meshes."""
