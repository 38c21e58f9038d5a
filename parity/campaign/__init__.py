"""Campaigns: very many comparisons, done by many processes or machines, each noted once and never done again."""
