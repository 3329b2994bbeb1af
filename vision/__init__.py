"""PIXELS -> VisualTokens. Torch; knows no data set and no LLM."""
