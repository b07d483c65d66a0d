"""Chips that models are compiled for: one package each, without a framework."""
