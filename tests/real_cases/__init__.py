"""Real bug fixes, rebuilt from published archives, run through a real ``tamma orchestrate`` and graded from outside."""
