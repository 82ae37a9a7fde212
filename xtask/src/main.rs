//! Developer commands: up, down, dev, test, bench, soak, lint, generate.

fn main() {}
