import re
import shutil
import subprocess

import pytest

from stillwatch.report.moat_page import render_moat

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)

FRAME = """<body style="margin:0">
<iframe id="f" src="page.html" style="width:{width}px;height:900px;border:0"></iframe>
<p id="told"></p>
<script>
f.onload = () => {{
  const page = f.contentDocument, root = page.documentElement;
  const pictures = page.querySelectorAll('svg.chart').length;
  told.textContent = [root.scrollWidth, root.scrollHeight, pictures].join(' ');
}}
</script>"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_its_window(sample_moat, tmp_path, width):
    """On a phone and on a desktop nothing sticks out to the right."""
    (tmp_path / "page.html").write_text(render_moat(sample_moat))
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += ["--allow-file-access-from-files"]
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    page = (tmp_path / "frame.html").as_uri()
    done = subprocess.run(
        [CHROMIUM, *options, folder, "--virtual-time-budget=5000", "--dump-dom", page],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    wide, tall, pictures = map(
        int, re.search(r'id="told">(\d+) (\d+) (\d+)<', done.stdout).groups()
    )
    assert width == wide
    assert tall > 3000
    assert pictures >= 12
