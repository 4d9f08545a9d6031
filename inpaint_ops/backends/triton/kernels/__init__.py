"""What runs on the GPU. Offsets into memory are 64 bits wide; nothing uses atomics."""
