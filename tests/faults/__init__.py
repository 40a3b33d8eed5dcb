"""Operations that a smoke test may attempt on real databases, and their results."""
