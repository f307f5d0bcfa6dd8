"""Starting Spark, for whoever has no cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stillwatch.errors import EnvironmentUnfitError, extra

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Keeps Spark from printing what it also raises.
_QUIET = Path(__file__).with_name("log4j2.properties")


def has_java() -> bool:
    """Tell whether Spark could start on this machine.

    Returns:
        True when `JAVA_HOME` or the path leads to a Java.
    """
    home = os.environ.get("JAVA_HOME")
    return bool((home and (Path(home) / "bin" / "java").exists()) or shutil.which("java"))


def local_session(cores: int = 2, *, memory: str = "2g") -> SparkSession:
    """Start Spark inside this process, without a cluster and without ports to the outside.

    Args:
        cores: tasks at once.
        memory: heap of the Java process, as Spark writes it.

    Returns:
        The session; whoever asked for it stops it. A session that runs already is given as it is.

    Raises:
        MissingExtraError: pyspark is not installed.
        EnvironmentUnfitError: there is no Java.
    """
    with extra("spark"):
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    if not has_java():
        message = "detect: Spark needs Java, and there is none"
        hint = "install Java 17 (Debian: openjdk-17-jre-headless), or use --engine local"
        raise EnvironmentUnfitError(message, hint=hint)
    settings: dict[str, bool | float | int | str | None] = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_QUIET.as_uri()}",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": memory,
        "spark.executorEnv.OMP_NUM_THREADS": "1",
    }
    builder = SparkSession.builder.master(f"local[{cores}]").appName("stillwatch")
    try:
        session = builder.config(map=settings).getOrCreate()
    except PySparkException as error:
        message = "detect: Spark does not start"
        raise EnvironmentUnfitError(message, hint="Spark 4 needs Java 17 or 21") from error
    # else workers run whatever `python3` is first on the path
    session.sparkContext.pythonExec = os.environ.get("PYSPARK_PYTHON", sys.executable)
    return session


@contextlib.contextmanager
def session_for(given: SparkSession | None) -> Iterator[SparkSession]:
    """Hold a session while something is done with it.

    Args:
        given: the session to use; None takes the active one, or starts a local one.

    Yields:
        The session. One that was started here is stopped afterwards.

    Raises:
        MissingExtraError: pyspark is not installed.
        EnvironmentUnfitError: there is no Java.
    """
    with extra("spark"):
        from pyspark.sql import SparkSession
    running = given or SparkSession.getActiveSession()
    if running is not None:
        yield running
        return
    own = local_session(os.cpu_count() or 1)
    try:
        yield own
    finally:
        own.stop()
