"""One run directory: one locked `Writer`, many readers. Knows files and SQLite; knows nothing of training or judging.

    runs/NAME/
      study.sqlite               the study, its trials, histories, evaluations and verdicts
      checkpoints/TRIAL/STEP.pt  immutable; the last one of each trial
      figures/                   drawn from the store, never read
      lock                       held by the writer

The commit protocol: the checkpoint is written under a temporary name, synced and renamed, and its folder synced; then
one transaction (rollback journal, synchronous=FULL) stores history, evaluations and the reference to it; then the older
checkpoint goes. A crash between any two of these leaves at most an orphaned file, swept at the next start.
"""

from etude.store.reading import (
    CHECKPOINTS,
    DATABASE,
    FIGURES,
    FORMAT,
    LOCK,
    UNFINISHED,
    Stored,
    StoredDecision,
    StoredEvaluation,
    StoredTrial,
    exists,
    plain,
    read,
    read_checkpoint,
    read_if_any,
    read_steps,
    runs,
)
from etude.store.writing import OURS, Writer

__all__ = [
    "CHECKPOINTS",
    "DATABASE",
    "FIGURES",
    "FORMAT",
    "LOCK",
    "OURS",
    "UNFINISHED",
    "Stored",
    "StoredDecision",
    "StoredEvaluation",
    "StoredTrial",
    "Writer",
    "exists",
    "plain",
    "read",
    "read_checkpoint",
    "read_if_any",
    "read_steps",
    "runs",
]
