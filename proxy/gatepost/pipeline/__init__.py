"""Rules and filters: asked in file order at each stage of a session, each with its own deadline.

The first final verdict for a recipient wins. A refusal before the message is sent at once; any other verdict
of an early stage is pending and is applied at its rule's place when the message is decided.
"""

from gatepost.pipeline.ask import Threads
from gatepost.pipeline.early import Early
from gatepost.pipeline.engine import Pipeline
from gatepost.pipeline.finish import Finished, finish
from gatepost.pipeline.rehearsal import Step, rehearse
from gatepost.pipeline.screening import Screening, TransactionScreening

__all__ = [
    "Early",
    "Finished",
    "Pipeline",
    "Screening",
    "Step",
    "Threads",
    "TransactionScreening",
    "finish",
    "rehearse",
]
