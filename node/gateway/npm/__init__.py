"""npm: packuments and tarballs for npm, pnpm, yarn and bun."""
