import logging

from mmengine.logging import MMLogger, print_log

from mvp_mm.engine.quiet_log import quiet_log


def test_warnings_and_errors_once(tmp_path, capsys):
    logger = MMLogger('of_a_test', log_file=str(tmp_path / 'log.txt'))
    with quiet_log():
        for _ in range(2):
            print_log('told the file', logger)
            print_log('look here', logger, logging.WARNING)
            print_log('it failed', logger, logging.ERROR)
            print_log('"FileClient" will be deprecated', logger, logging.WARNING)
    shown = capsys.readouterr()
    assert shown.err == 'WARNING: look here\nERROR: it failed\n' and not shown.out
    assert (tmp_path / 'log.txt').read_text().count('told the file') == 2
    print_log('as before', logger)
    assert 'as before' in ''.join(capsys.readouterr())


def test_not_in_force_after_a_failure(capsys):
    kept = MMLogger.callHandlers
    said = []
    try:
        with quiet_log(lambda text, level: said.append((text, level))):
            print_log('odd', MMLogger('of_another'), logging.ERROR)
            raise KeyError
    except KeyError:
        pass
    assert MMLogger.callHandlers is kept and said == [('ERROR: odd', logging.ERROR)]
