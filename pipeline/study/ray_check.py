"""Whether the nodes of a cluster can make a study's steps: the same versions, the same sound, the same code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from earshot.core.errors import EarshotError, ToolError
from earshot.pipeline.manifest import LIBRARIES, library_versions
from earshot.pipeline.study.ray_cluster import Cluster, Node, first_line
from earshot.pipeline.study.ray_worker import SAME_VERSIONS, differing, examine


def check_nodes(cluster: Cluster, luggage: Any, wanted: Sequence[str]) -> None:
    """Has every node that lends CPUs look at itself; one that is gone meanwhile is left out.

    Args:
        cluster: whose nodes.
        luggage: reference to the study's luggage.
        wanted: identities of the study's steps.

    Raises:
        ToolError: another version of earshot, or of a library that shapes results; or a node cannot look, and is there.
        DataError: sound is missing or not the same.
        UsageError: the study makes other steps there.
    """
    for node, versions in _asked(cluster, _versions_teller(), list(LIBRARIES)):
        if differences := differing(library_versions(), versions):
            raise ToolError(f"node {node.name}: {differences}", SAME_VERSIONS)
    for node, misfit in _asked(cluster, examine, luggage, list(wanted)):
        if misfit is not None:
            raise at_node(node.name, misfit)


def at_node(name: str, error: EarshotError) -> EarshotError:
    """An error with the node that it happened at."""
    return type(error)(f"node {name}: {error.message}", error.hint)


def _asked(cluster: Cluster, question: Callable[..., Any], *arguments: Any) -> Iterator[tuple[Node, Any]]:
    """What every node answers, all at once; they need not be idle for it."""
    nodes = [node for node in cluster.nodes() if node.cpus]
    asking = cluster.ray.remote(question)
    answers = [(node, asking.options(**cluster.at(node.id)).remote(*arguments)) for node in nodes]
    for node, answer in answers:
        try:
            yield node, cluster.get(answer)
        except cluster.ray.exceptions.RayTaskError as error:
            raise ToolError(f"node {node.name}: {first_line(error.cause)}", "install earshot anew there") from error
        except cluster.ray.exceptions.RayError as error:
            if not cluster.lost(node, error):
                what = f"node {node.name}: it could not be looked at ({first_line(error)})"
                raise ToolError(what, "see Ray's logs there, or take it out of the cluster: ray stop") from error


def _versions_teller() -> Callable[[Sequence[str]], dict[str, str]]:
    """Travels whole, because it is no function of a module: it has to answer where another earshot is, or none."""

    def versions(libraries: Sequence[str]) -> dict[str, str]:
        import importlib.metadata
        import platform

        found = {"python": platform.python_version()}
        for library in libraries:
            try:
                found[library] = importlib.metadata.version(library)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found

    return versions
