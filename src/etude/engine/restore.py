"""Gives a person the module that a trial trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from etude.engine.session import Session, Setup
from etude.errors import SpecError
from etude.spec.study import Study

if TYPE_CHECKING:
    from etude.store import StoredTrial


def trained(study: Study, stored: StoredTrial, checkpoint: bytes) -> torch.nn.Module:
    """Return the module, made by the study's task, with the weights of the checkpoint.

    Raises `SpecError` where they do not fit.
    """
    setup = Setup(task=study.make_task(), recipe=study.recipe)
    trial = stored.trial
    try:
        session = Session.open(setup, trial, checkpoint)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SpecError(
            f"result.model: the stored weights do not fit the model that the study makes ({reason}); "
            "give the study that trained them"
        ) from error
    if study.select == "best" and session.best is None:
        raise SpecError(
            f"result.model: {trial} was trained without keeping the weights of its best evaluation (select = 'last' then); "
            "only the last ones are there: ask the study with select='last' for them"
        )
    return session.trained()
