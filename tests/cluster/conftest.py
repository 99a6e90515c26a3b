"""A cluster on this machine, in a network of its own."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cluster_nodes import Cluster


@pytest.fixture
def start_cluster(tmp_path) -> Iterator[Callable[..., Cluster]]:
    """Start nodes and all that they share; at the end no log of a node may have a traceback."""
    if os.geteuid() != 0:
        pytest.skip("only root has networks of its own")
    made: list[Cluster] = []

    def start(nodes: int = 2) -> Cluster:
        made.append(Cluster(tmp_path, nodes))
        return made[-1]

    yield start
    for one in made:
        one.close()
    for one in made:
        for node in one.nodes:
            assert not node.unexpected(), node.log
