"""Students ready to be trained: the model, its rows, and how it is written to disk."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stillwatch.distill.items import Example
from stillwatch.distill.training.batches import Row
from stillwatch.distill.training.rows import chat_rows, house_rows
from stillwatch.distill.training.student_tokenizer import make_tokenizer
from stillwatch.distill.training.train import StudentShape, new_model
from stillwatch.distill.training.train_table import TrainTable
from stillwatch.errors import extra, reject
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.folder import (
    TOKENIZER,
    ChatTokenizer,
    GenerationDefaults,
    save_model,
    write_folder_atomically,
)
from stillwatch.model.huggingface import (
    ADAPTER,
    device_of,
    eos_ids_of,
    load_causal,
    max_context,
    precision_of,
    quiet,
)


@dataclass(frozen=True, kw_only=True)
class Student:
    """A model with the rows that it learns from.

    Attributes:
        model: a causal language model of transformers on its device, in training mode.
        rows: the examples that it can learn from.
        pad_id: fills short rows.
        precision: "float32" or "bfloat16".
        n_parameters: weights that training moves, counted before adapters are merged (count).
        chat: a `ChatTokenizer` for a house model, else a `ChatTemplate`.
        left_out: examples that it cannot learn from, by reason (counts).
        template_sha256: hash of the chat template, "" for the house's format.
        save: writes the model folder atomically.
    """

    model: Any
    rows: Sequence[Row]
    pad_id: int
    precision: str
    n_parameters: int
    chat: ChatTokenizer | ChatTemplate
    left_out: Mapping[str, int]
    template_sha256: str
    save: Callable[[Path], None]

    @property
    def n_signal(self) -> int:
        """Answer tokens whose teacher distribution is known (count)."""
        return sum(len(row.signal.places) for row in self.rows if row.signal is not None)


def make_student(examples: Sequence[Example], table: TrainTable, *, seed: int) -> Student:
    """Load or make the model and turn the examples into its rows.

    Args:
        examples: at least one that it can learn from.
        table: which student.
        seed: of new weights and adapters.

    Returns:
        The student.
    """
    make = _house_student if table.student.is_house else _chat_student
    return make(examples, table, seed=seed)


def _house_student(examples: Sequence[Example], table: TrainTable, *, seed: int) -> Student:
    given = table.student
    shape = StudentShape(given.width, given.layers, given.heads, given.context)
    with TemporaryDirectory() as scratch:
        made = make_tokenizer(examples, given, path=Path(scratch) / TOKENIZER)
        chat, kept = ChatTokenizer(made), made.read_bytes()
        longest = min(table.max_tokens or shape.context, shape.context)
        found = house_rows(examples, chat, table=table, longest=longest)
    limit = table.max_new_tokens or min(shape.context, 2 * found.longest_answer)
    defaults = GenerationDefaults(table.temperature, limit)
    # A model of this size is faster on a processor, and there its bytes repeat.
    device = "cpu" if table.device == "auto" else table.device
    model = new_model(chat, shape, seed).to(device_of(device))

    def save(out: Path) -> None:
        with TemporaryDirectory() as scratch:
            chat.file = Path(scratch) / TOKENIZER
            chat.file.write_bytes(kept)
            save_model(model, tokenizer=chat, defaults=defaults, out=out)

    return Student(
        model=model, rows=found.rows, pad_id=chat.pad_id, precision=_precision(table, model),
        n_parameters=_n_trained(model), chat=chat, left_out=found.left_out, template_sha256="",
        save=save,
    )  # fmt: skip


def _chat_student(examples: Sequence[Example], table: TrainTable, *, seed: int) -> Student:
    given = table.student
    device = device_of(table.device)
    model, at_rest = new_causal(given.config, seed=seed) if given.config else _trained(given.folder)
    template = ChatTemplate.load(
        given.tokenizer or given.folder, template=given.template, eos_ids=eos_ids_of(model)
    )
    _check_vocabulary(model, template)
    if table.lora is not None:
        model = with_adapters(model, table, seed=seed)
    longest = min(table.max_tokens or 1 << 30, max_context(model.config))
    found = chat_rows(examples, template, table=table, longest=longest)
    model = model.to(device).train()
    if table.gradient_checkpointing:
        save_memory(model)
    length = table.max_new_tokens or 2 * found.longest_answer

    def save(out: Path) -> None:
        write_folder_atomically(
            out,
            lambda folder: write_causal(
                model, template, folder=folder, dtype=at_rest, table=table, max_new_tokens=length
            ),
        )

    return Student(
        model=model, rows=found.rows, pad_id=template.pad_id, precision=_precision(table, model),
        n_parameters=_n_trained(model), chat=template, left_out=found.left_out,
        template_sha256=template.sha256, save=save,
    )  # fmt: skip


def new_causal(config: str, *, seed: int) -> tuple[Any, Any]:
    """Make a causal language model with new weights.

    Args:
        config: a `config.json`, or a folder that holds one.
        seed: of the weights.

    Returns:
        The model, and the dtype that it is written in.
    """
    with extra("train"):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    path = Path(config)
    if not (path / "config.json").is_file() and not path.is_file():
        reject("[train.student]", "config", "a config.json, or a folder with one", got=config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = AutoConfig.from_pretrained(str(path))
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    return model, torch.float32


def _trained(folder: str) -> tuple[Any, Any]:
    """Load trained weights for training: float32, because small steps vanish in bfloat16."""
    with extra("train"):
        import torch
        from transformers import AutoConfig
    model = load_causal(folder, precision="float32")
    at_rest = getattr(AutoConfig.from_pretrained(folder), "dtype", None) or torch.float32
    return model, at_rest


def save_memory(model: Any) -> None:
    """Recompute activations in the backward pass instead of keeping them.

    Args:
        model: with or without adapters.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if inner is not model:
        model.enable_input_require_grads()  # else nothing reaches the adapters
    # transformers renames this one.
    enable = getattr(inner, "activation_checkpointing_enable", None)
    if enable is None:
        enable = inner.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def with_adapters(model: Any, table: TrainTable, *, seed: int) -> Any:
    """Put low-rank adapters on a model and freeze the rest.

    Args:
        model: a causal language model.
        table: its `lora`.
        seed: of the adapters.

    Returns:
        The model with adapters.
    """
    with extra("train"):
        import torch
        from peft import LoraConfig, get_peft_model
    lora = table.lora
    assert lora is not None  # the caller looked
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
        # GPT-2 keeps its matrices the other way round.
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        torch.manual_seed(seed)
        return get_peft_model(model, settings)


def write_causal(
    model: Any,
    template: ChatTemplate,
    *,
    folder: Path,
    dtype: Any,
    table: TrainTable,
    max_new_tokens: int,
) -> None:
    """Write a trained model's files.

    Args:
        model: with or without adapters; adapters are merged unless the table says otherwise.
        template: its tokenizer and chat template, written along.
        folder: an empty folder.
        dtype: of the weights at rest.
        table: sampling defaults, and whether adapters are merged.
        max_new_tokens: where the student's answers are cut by default.
    """
    with extra("train"):
        from transformers import GenerationConfig
    is_adapter = table.lora is not None and not table.lora.merge
    whole = model.merge_and_unload() if table.lora is not None and not is_adapter else model
    generation = GenerationConfig(
        do_sample=table.temperature > 0,
        temperature=table.temperature or None,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(template.eos_ids),
        pad_token_id=template.pad_id,
    )
    if not is_adapter:
        whole = whole.to("cpu", dtype=dtype)
        whole.generation_config = generation
    with quiet():
        whole.save_pretrained(str(folder))
        template.tokenizer.save_pretrained(str(folder))
    if is_adapter:
        generation.save_pretrained(str(folder))
        _tidy_adapter(folder)


def _tidy_adapter(folder: Path) -> None:
    """Sort what peft writes in the order of a set, and leave its card, which is not ours, out."""
    path = folder / ADAPTER
    settings = json.loads(path.read_text("utf-8"))
    settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")
    (folder / "README.md").unlink(missing_ok=True)


def _check_vocabulary(model: Any, template: ChatTemplate) -> None:
    rows, tokens = model.get_input_embeddings().weight.shape[0], len(template.tokenizer)
    if tokens > rows:
        hint = "the tokenizer is another model's"
        reject("[train.student]", "tokenizer", f"at most {rows} tokens", got=tokens, hint=hint)


def _n_trained(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _precision(table: TrainTable, model: Any) -> str:
    return precision_of(table.precision, device=model.device.type)
