import pytest

from stillwatch.report.moat_page import render_moat


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_its_window(sample_moat, show_page, width):
    """On a phone and on a desktop nothing sticks out to the right."""
    wide, tall, pictures = show_page(render_moat(sample_moat), width)
    assert width == wide
    assert tall > 3000
    assert pictures >= 12
