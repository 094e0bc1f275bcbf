"""The peers, each written as its own documentation shows. `bench/subjects` runs them."""
