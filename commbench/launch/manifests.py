# SPDX-License-Identifier: Apache-2.0
"""Manifests of Kubernetes: an indexed Job with a pod for each node, in which torchrun makes the ranks, and an MPIJob.

Fields: Kubernetes API v1 and batch/v1 (kubernetes.io/docs/reference, 1.30), kubeflow.org/v2beta1 of the MPI operator.
"""

from collections.abc import Mapping
from shlex import quote
from typing import Any

import yaml

from commbench.errors import InputError
from commbench.launch.asked import LaunchAsked
from commbench.launch.scripts import NOW, program, torchrun_words

__all__ = ["indexed_job", "mpi_job"]

_GPU = "nvidia.com/gpu"
_HOSTFILE = "/etc/mpi/hostfile"  # of the MPI operator; its lines are "host slots=8" or "host:8"


def indexed_job(asked: LaunchAsked) -> str:
    """A headless Service, by which pods find the first one, and the Job.

    Raises:
        InputError: no image, or no claim for results.
    """
    _require(asked)
    first = f"{asked.name}-0.{asked.name}"
    run = f"exec {torchrun_words(asked, first, '$JOB_COMPLETION_INDEX')} -m {program(asked, NOW)}"
    pod = _pod(asked, _shell(asked, run), {"job-name": asked.name})
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": asked.name},
        # pods must find each other before they are ready
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": asked.name}},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": asked.name},
        "spec": {
            "completionMode": "Indexed",
            "completions": asked.nodes,
            "parallelism": asked.nodes,
            "backoffLimit": 0,
            "template": {"spec": {"subdomain": asked.name, **pod}},
        },
    }
    return _text(service, job)


def mpi_job(asked: LaunchAsked) -> str:
    """An MPIJob of the MPI operator, with Open MPI; errors as of :func:`indexed_job`."""
    _require(asked)
    sent = [f"-x {name}" for name in ("PATH", "MASTER_ADDR", "MASTER_PORT", *dict(asked.exports))]
    words = f"mpirun -np {asked.world_size} --map-by ppr:{asked.ranks}:node --bind-to none {' '.join(sent)}"
    first = f"export MASTER_ADDR=$(awk -F'[ :]' 'NR == 1 {{print $1}}' {_HOSTFILE}) MASTER_PORT={asked.port}"
    launcher = _shell(asked, f"{first}\nexec {words} {program(asked, NOW)}")
    workers = {"training.kubeflow.org/job-name": asked.name, "training.kubeflow.org/job-role": "worker"}
    job = {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": {"name": asked.name},
        "spec": {
            "slotsPerWorker": asked.ranks,
            "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": 0},
            "mpiReplicaSpecs": {
                "Launcher": {"replicas": 1, "template": {"spec": _pod(asked, launcher, None)}},
                "Worker": {"replicas": asked.nodes, "template": {"spec": _pod(asked, None, workers)}},
            },
        },
    }
    return _text(job)


class _Dumper(yaml.SafeDumper):
    """Text of several lines stands as it is."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _lines)


def _text(*documents: Mapping[str, Any]) -> str:
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=1000)


def _require(asked: LaunchAsked) -> None:
    if not asked.image:
        raise InputError("Kubernetes needs --image, the container image that has commbench and torch")
    if asked.has_out or not asked.claim:
        raise InputError(
            "a pod's own files go with it: give --folder, where results are kept, and --claim, the persistent volume "
            "claim that is mounted there" + (", and no --out in the command" if asked.has_out else "")
        )


def _shell(asked: LaunchAsked, run: str) -> list[str]:
    return ["bash", "-euc", "\n".join([*asked.setup, f"mkdir -p {quote(asked.folder)}", run])]


def _pod(asked: LaunchAsked, command: list[str] | None, spread: Mapping[str, str] | None) -> dict[str, Any]:
    """What runs in one pod.

    Args:
        command: None is the image's own, as of workers that wait for mpirun. spread: labels of pods of which no two may
            share a node; None: it computes nothing.
    """
    container: dict[str, Any] = {"name": asked.name, "image": asked.image}
    if command is not None:
        container["command"] = command
    container["env"] = [{"name": name, "value": value} for name, value in asked.exports]
    mounts, volumes = [{"name": "results", "mountPath": asked.folder}], [_claim(asked)]
    if spread is not None and asked.gpus:
        container["resources"] = {"limits": {_GPU: asked.gpus}}
        container["securityContext"] = {"capabilities": {"add": ["IPC_LOCK"]}}  # RDMA locks its buffers
    if spread is not None:  # NCCL's ranks meet in shared memory, of which a container has 64 MiB by itself
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    container["volumeMounts"] = mounts
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    if spread is not None and asked.nodes > 1:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": dict(spread)},
            }
        ]
    return pod


def _claim(asked: LaunchAsked) -> dict[str, Any]:
    return {"name": "results", "persistentVolumeClaim": {"claimName": asked.claim}}
