from mvp_mm.console.doctor import Finding, diagnose


def test_doctor(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MVP_MM_ZOO', raising=False)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    assert diagnose() == 0
    printed = capsys.readouterr().out
    assert 'no data/imagenet/train in' in printed and 'tools/prepare_ade20k.py' in printed
    assert 'teachers_clip_vittiny_scenes: its weights are there' in printed
    assert 'switched off by the environment' in printed and 'everything that is needed is there' in printed
    monkeypatch.setenv('MVP_MM_ZOO', str(tmp_path / 'gone'))
    monkeypatch.setattr('mvp_mm.console.doctor.COMPONENTS', {})
    assert diagnose() == 1
    printed = capsys.readouterr().out
    assert 'FAIL  the zoo' in printed and '1 to fix' in printed
    monkeypatch.setattr('mvp_mm.console.doctor.CHECKS', [lambda: [Finding('fail', 'a [b]', 'do c')]])
    assert diagnose() == 1 and 'a [b]' in capsys.readouterr().out
