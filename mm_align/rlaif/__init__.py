"""Feedback from models: candidates, claims, questions, judgements, scores, pairs, each stage a file. A model is an argument; no torch."""
