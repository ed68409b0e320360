"""What was done, on disk: from it a run goes on wherever it was stopped.

    Master ── draw, record ──▶ Journal ──▶ Writer (a thread) ──▶ NAME.journal (SQLite)
    inputs ──▶ Recalling ──▶ Master            ▲                     │
                  └── Recall ◀─────────────────┴── Reader ◀──────────┘ ──▶ runs, show, results

A package where the first design had one file: what is stored, how it is written, how an input is
known again and how a function is, are four matters that change for different reasons.
"""
