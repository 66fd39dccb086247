from featherweight.errors import OverBudget, UserError, nearest


def test_nearest_offers_the_closest_name_in_its_own_spelling():
    assert nearest("WRN16-4", ["tiny", "wrn16_4"]) == "; did you mean 'wrn16_4'?"


def test_nearest_offers_nothing_when_nothing_is_close():
    assert nearest("zebra", ["adam", "sgd"]) == ""


def test_nearest_takes_names_that_can_be_read_once():
    assert nearest("ADAMW", (name for name in ["Adamw", "sgd"])) == "; did you mean 'Adamw'?"


def test_exit_codes():
    assert UserError.exit_code == 2
    assert OverBudget.exit_code == 3
    assert issubclass(OverBudget, UserError)
