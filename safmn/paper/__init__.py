"""The paper itself: printed tables and logs, claims, verdict rules and statistics. No study is needed to read it."""
