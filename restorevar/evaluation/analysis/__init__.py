"""What goes on inside the model: the paper's analyses (figures 2, 9, 10, 13, 14) as functions on photos and pairs.

Nothing here knows of the command line. Functions return figures as plain dataclasses, and pictures as Pillow images.

    views.py        a photo as the model sees it, in one window
    pyramid.py      what each scale adds to the latent: of a photo, or predicted; swapped between two
    swaps.py        the scale study of one pair, studied over a data set in scale_study.py
    refiner.py      the control of figure 14;  ddim.py  quality against steps (figure 10)
    budget.py       what each stage costs of one pair, of a data set in budget_study.py with the worst photos
    tokens.py       token, confidence and entropy maps;  change.py  which part changes what
    unseen.py       degradations that no recipe trains on;  generalisation.py  how those come out
    realism.py      whether synthetic photos are like real ones, by photo_statistics.py;  realism_page.py  as a page
    findings.py     sentences, tables and charts of a study, as JSON and markdown
    drawing.py      pictures in rows;  chart.py  lines as SVG
"""
