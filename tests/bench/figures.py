"""Figures of a measured step, made up, as ``dlrm bench train`` writes them."""

from __future__ import annotations

from typing import Any

RATIO = {"median": 1.25, "low": 1.2, "high": 1.3}


def training_figures() -> dict[str, Any]:
    speed = {
        "examples_per_second": {"median": 5e4, "low": 4e4, "high": 6e4},
        "overall_examples_per_second": 45_000.0,
    }
    return {
        "case": "w1",
        "model": "dlrm",
        "optimizer": "sgd",
        "dense_optimizer": "SGD",
        "machine": {
            "cpu": "A <fast> CPU",
            "cores": 2,
            "cpu_flags": ["avx2"],
            "memory_bytes": 16e9,
            "load_average": 0.1,
            "packages": {"torch": "2.13"},
        },
        "facts": {
            "gpu": None, "threads": 2, "precision": "fp32",
            "batch": 2048, "shuffle": "exact",
            "log_every": 50, "tensorboard": True, "checkpoint_every": 245,
            "steps_taken": 480, "peak_rss_bytes": 1.5e9, "peak_cuda_bytes": None,
            "table_bytes": 0.25e9,
        },
        "contestants": {"dlrm": speed, "bare": speed, "bare again": speed},
        "ratios": {"bare": RATIO},
        "noise": {"bare": {"median": 1.001, "low": 0.99, "high": 1.01}},
        "void": False,
        "idle_share": 0.001,
        "absent": {"embedding_bags": "it has the dot interaction alone"},
        "split": {
            "data": 0.001, "embedding forward": 0.002, "interaction forward": 0.003,
            "mlp forward": 0.008, "mlp backward": 0.016, "interaction backward": 0.003,
            "update": 0.004, "other": 0.003, "whole": 0.04,
            "whole_without_timers": 0.0395,
        },
        "traffic": {"examples": 2048, "read_bytes": 3.4e6, "changed_bytes": 1.1e6},
        "limits": {
            "layers": [
                {
                    "shape": [2048, 368, 512, True],
                    "seconds": {"forward": 0.003, "weight gradient": 0.003},
                    "flops": 1.5e9,
                    "bytes": 2.4e7,
                }
            ],
            "peak_flops": 3.2e11,
            "copy_bytes_per_second": 2.0e10,
            "gather_bytes_per_second": 1.2e10,
            "update_bytes_per_second": 3.0e9,
        },
        "dot": {"flops": 9.6e7, "bytes": 1.6e7},
        "floor": {
            "gemm_seconds": 0.018, "row_seconds": 0.001, "seconds": 0.019,
            "examples_per_second": 107_000.0, "share_reached": 0.48,
            "flops_a_step": 5.8e9, "flops_per_second": 1.5e11,
            "gemm_limit_flops_per_second": 3.1e11, "lookup_bytes_per_second": 1.7e9,
            "update_bytes_per_second": None,
        },
    }  # fmt: skip
