"""Training beside TRL's SFTTrainer: the same student, rows, order, rate and steps.

Three trainers, each in a process of its own, on one thread: the package's loop, TRL given the same
rows in the same order (the losses must agree), and TRL as its users call it, on prompts and
completions that it renders and shuffles itself. Nothing is fetched: the student is made from a
config, its tokenizer from the questions.

    python bench/distill_train.py [--pairs 2000] [--steps 40] [--vocabulary 1024] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stillwatch.distill.items import Example, Item, item_id_of
from stillwatch.distill.training.train_table import StudentTable, TrainTable
from stillwatch.model.huggingface import quiet
from stillwatch.record.exchange import Answer, Message

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TRAINERS = ("own", "trl", "trl-plain")


def make_examples(n: int, *, longest: int, seed: int = 0) -> list[Example]:
    """Draw questions and answers of words; lengths are spread evenly up to the longest.

    Args:
        n: pairs (count).
        longest: tokens of the longest, roughly (count).
        seed: of the draw.

    Returns:
        The pairs.
    """
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size=rng.integers(2, 8))) for _ in range(600)]
    examples = []
    for _ in range(n):
        size = int(rng.integers(longest // 16, longest // 2 - 8))
        asked = " ".join(rng.choice(words, size=max(4, size // 3)))
        answer = " ".join(rng.choice(words, size=size))
        messages = (Message("user", asked),)
        item = Item(item_id=item_id_of(messages), messages=messages)
        examples.append(Example(item=item, answer=Answer(answer, "stop")))
    return examples


def make_folder(examples: Sequence[Example], folder: Path, *, options: argparse.Namespace) -> None:
    """Write a student with new weights, its tokenizer and its chat template.

    Args:
        examples: what the tokenizer is learnt from.
        folder: the model folder.
        options: its size.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(options.vocabulary, 1024),
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator((e.answer.text for e in examples), trainer=trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=SPECIALS[2], pad_token=SPECIALS[0]
    )
    tokenizer.chat_template = CHATML
    config = LlamaConfig(
        vocab_size=max(options.vocabulary, len(tokenizer)),
        hidden_size=options.width,
        intermediate_size=3 * options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with quiet():
        LlamaForCausalLM(config).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))


class Clock:
    """Notes the time after each step, so that starting up does not count."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []
        self.losses: list[float] = []

    def note(self, _: int, loss: float) -> None:
        """Note one step."""
        self.marks.append((time.process_time(), time.perf_counter()))
        self.losses.append(loss)

    def spent(self) -> tuple[float, float]:
        """Processor and wall seconds of a step, from the second on."""
        (cpu_a, wall_a), (cpu_b, wall_b) = self.marks[0], self.marks[-1]
        n = len(self.marks) - 1
        return (cpu_b - cpu_a) / n, (wall_b - wall_a) / n


def run_child(trainer: str, scratch: Path, table: TrainTable) -> dict[str, Any]:
    """Train once in this process and measure.

    Args:
        trainer: one of `TRAINERS`.
        scratch: holds the examples and the student.
        table: how to train.

    Returns:
        The figures.
    """
    started = time.process_time()
    import torch

    from stillwatch.distill.training.train_lm import train_lm

    if trainer != "own":
        import trl  # noqa: F401 - its import is part of what is measured

    torch.set_num_threads(1)
    import_s = time.process_time() - started
    decoder = msgspec.json.Decoder(Example)
    examples = [decoder.decode(line) for line in (scratch / "examples.jsonl").open("rb")]
    clock, before = Clock(), _peak_mb()
    out = scratch / trainer
    if trainer == "trl-plain":
        n_tokens, loss = train_plainly(examples, scratch / "student", table, note=clock.note)
    else:
        table = msgspec.structs.replace(table, trainer=trainer)
        result = train_lm(examples, table, seed=0, out=out, on_step=clock.note)
        n_tokens, loss = result.n_tokens, float(result.losses[-1])
    cpu_s, wall_s = clock.spent()
    per_step = n_tokens / len(clock.marks)
    return {
        "trainer": trainer,
        "import_cpu_s": round(import_s, 2),
        "tokens_per_cpu_s": round(per_step / cpu_s),
        "tokens_per_s": round(per_step / wall_s),
        "peak_mb": round(_peak_mb()),
        "peak_mb_above_start": round(_peak_mb() - before),
        "tokens": n_tokens,
        "first_loss": clock.losses[0],
        "last_loss": loss,
    }


def train_plainly(
    examples: Sequence[Example],
    folder: Path,
    table: TrainTable,
    *,
    note: Callable[[int, float], None],
) -> tuple[int, float]:
    """Train as TRL's guide has it: a data set of prompts and completions, its own everything.

    Args:
        examples: the pairs.
        folder: the student.
        table: steps, batch and rate.
        note: called after each step.

    Returns:
        Tokens shown (count) and the last loss.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from stillwatch.distill.training.train_trl import step_caller

    rows = Dataset.from_list([_prompt_and_completion(example) for example in examples])
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(folder)),
        args=SFTConfig(**_plain_settings(folder, table)),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(str(folder)),
        callbacks=[step_caller(note)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return int(float(logs[-1]["num_tokens"])), float(logs[-1]["loss"])


def _plain_settings(folder: Path, table: TrainTable) -> dict[str, Any]:
    return {
        "output_dir": str(folder.parent / "plain"),
        "max_steps": table.steps,
        "per_device_train_batch_size": table.batch_size,
        "learning_rate": table.peak_rate,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }


def _prompt_and_completion(example: Example) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": example.item.question}],
        "completion": [{"role": "assistant", "content": example.answer.text}],
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Run the three trainers one after the other, several times, and keep the best of each.

    Args:
        options: as given on the command line.

    Returns:
        The figures of each.
    """
    figures: dict[str, Any] = {"options": vars(options), "versions": _versions(), "runs": []}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        examples = make_examples(options.pairs, longest=options.longest)
        lines = b"".join(msgspec.json.encode(example) + b"\n" for example in examples)
        (scratch / "examples.jsonl").write_bytes(lines)
        make_folder(examples, scratch / "student", options=options)
        table = TrainTable(
            steps=options.steps,
            batch_size=options.batch,
            learning_rate=1e-3,
            schedule="constant",
            warmup=0.0,
            device="cpu",
            student=StudentTable(folder=str(scratch / "student")),
        )
        (scratch / "table.json").write_bytes(msgspec.json.encode(table))
        for trainer in TRAINERS * options.repeats:
            command = [sys.executable, __file__, "--child", trainer, "--scratch", name]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            figures["runs"].append(json.loads(done.stdout.splitlines()[-1]))
    return figures


def print_table(figures: dict[str, Any]) -> None:
    """Print the best run of each trainer.

    Args:
        figures: as `compare` gives them.
    """
    print(f"versions: {figures['versions']}")
    columns = [
        "tokens_per_cpu_s", "tokens_per_s", "peak_mb", "peak_mb_above_start", "import_cpu_s",
        "tokens", "first_loss", "last_loss",
    ]  # fmt: skip
    print("trainer".ljust(10), *(column.rjust(20) for column in columns))
    for trainer in TRAINERS:
        runs = [run for run in figures["runs"] if run["trainer"] == trainer]
        best = max(runs, key=lambda run: run["tokens_per_cpu_s"])
        print(trainer.ljust(10), *(f"{best[column]:.9g}".rjust(20) for column in columns))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "trl", "accelerate")}


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--longest", type=int, default=512, help="tokens of the longest pair")
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", help="write the figures as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        scratch = Path(options.scratch)
        table = msgspec.json.decode((scratch / "table.json").read_bytes(), type=TrainTable)
        print(json.dumps(run_child(options.child, scratch, table)))
        return
    figures = compare(options)
    print_table(figures)
    if options.out:
        Path(options.out).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
